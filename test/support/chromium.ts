import { accessSync, constants } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';

/** What the tests use of a page of playwright's. */
export interface BrowserPage {
  goto(url: string): Promise<unknown>;
  title(): Promise<string>;
  textContent(selector: string): Promise<string | null>;
  evaluate(expression: string): Promise<unknown>;
  on(event: 'pageerror', heard: (error: Error) => void): unknown;
  on(event: 'console', heard: (message: { type(): string; text(): string }) => void): unknown;
  locator(selector: string): { boundingBox(): Promise<{ readonly y: number } | null> };
  readonly mouse: { move(x: number, y: number): Promise<void>; wheel(deltaX: number, deltaY: number): Promise<void> };
  readonly keyboard: { press(key: string): Promise<void> };
}

interface Playwright {
  readonly chromium: {
    launchPersistentContext(profile: string, options: object): Promise<{ pages(): readonly BrowserPage[]; newPage(): Promise<BrowserPage>; close(): Promise<void> }>;
  };
}

const driver = 'playwright-core';

/** Debian's browser. */
const browser = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, 'chromium')).find(isProgram);

/** Why there is no page; undefined: there is one. */
export const noBrowser = browser === undefined ? 'no chromium on this machine: apt-get install chromium' : isInstalled(driver) ? undefined : `${driver} is not installed: npm ci`;

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function isInstalled(name: string): boolean {
  try {
    return createRequire(import.meta.url).resolve(name) !== '';
  } catch {
    return false;
  }
}

/** Nothing that looks for a network, a display or a screen's processor. */
const args = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** A page of a browser with a profile of its own; both are gone with `close`. */
export async function openPage(): Promise<{ readonly page: BrowserPage; readonly close: () => Promise<void> }> {
  // Loaded only here: what needs no browser does without its driver, too.
  const { chromium } = (await import(driver)) as Playwright;
  // The driver's own folder: it knows when the last process of the browser has written to it.
  const context = await chromium.launchPersistentContext('', { executablePath: browser, headless: true, args, viewport: { width: 1200, height: 700 } });
  return { page: context.pages()[0] ?? (await context.newPage()), close: () => context.close() };
}
