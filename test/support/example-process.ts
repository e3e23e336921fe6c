import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..', '..');

/** An example that serves a device, in a process of its own, as a person would start it. */
export class ExampleProcess {
  readonly #folder = mkdtempSync(join(tmpdir(), 'vfio-rx-example-'));
  readonly #child: ChildProcess;
  readonly path = join(this.#folder, 'device.sock');
  /** What it says when it listens. */
  readonly listening: Promise<string>;
  #printed = '';
  #told: () => void = () => undefined;

  constructor(example: string) {
    this.#child = spawn(process.execPath, ['--import', 'tsx', join(root, 'examples', example, 'main.ts'), `unix:${this.path}`], { cwd: root, stdio: 'pipe' });
    this.#child.stdout?.setEncoding('latin1').on('data', (text: string) => {
      this.#printed += text;
      this.#told();
    });
    this.listening = new Promise((done, failed) => {
      let said = '';
      this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (/^serving at .*\n/m.test(said)) done(said);
      });
      this.#child.once('close', () => failed(new Error(said)));
    });
  }

  type(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** When it has printed so much. */
  printed(text: string): Promise<void> {
    return new Promise((done) => {
      this.#told = () => {
        if (this.#printed === text) done();
      };
      this.#told();
    });
  }

  /** Its exit code, once it has been asked to end. */
  async end(): Promise<number | null> {
    const ended = new Promise<number | null>((done) => void this.#child.once('close', done));
    this.#child.kill();
    const code = await ended;
    rmSync(this.#folder, { recursive: true });
    return code;
  }
}
