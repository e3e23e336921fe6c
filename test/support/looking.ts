import { lastValueFrom } from 'rxjs';
import { expect } from 'vitest';
import { doctorCommand } from '../../src/cli/doctor.js';
import { infoCommand } from '../../src/cli/info.js';
import { listCommand } from '../../src/cli/list.js';
import { thisMachine } from '../../src/cli/machine/machine.js';
import { vfioFds } from './mdev.js';

/** What the commands that look say of this machine, as JSON. */

export type Line = Readonly<Record<string, unknown>>;

export function linesOf(written: readonly string[]): readonly Line[] {
  return written.join('').trimEnd().split('\n').map((line) => JSON.parse(line) as Line);
}

export function listed(): readonly Line[] {
  const written: string[] = [];
  listCommand(thisMachine, { write: (text) => written.push(text), json: true });
  return linesOf(written);
}

export function doctor(device: string): { readonly code: number; readonly lines: readonly Line[]; readonly wrong: readonly unknown[] } {
  const written: string[] = [];
  const code = doctorCommand(thisMachine, device, { write: (text) => written.push(text), json: true });
  const lines = linesOf(written);
  return { code, lines, wrong: lines.filter(({ level }) => level === 'wrong').map(({ about }) => about) };
}

export async function info(device: string): Promise<Line> {
  const written: string[] = [];
  expect(await lastValueFrom(infoCommand(thisMachine, device, { write: (text) => written.push(text), json: true }))).toBe(0);
  expect(vfioFds()).toEqual([]);
  return linesOf(written)[0] ?? {};
}
