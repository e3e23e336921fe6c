import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as after } from 'node:timers/promises';

/** What a command has printed on both streams, and what it ended with. */
export interface Answer {
  readonly output: string;
  readonly code: number;
}

export interface ShellOptions {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  /** Files and folders of the machine that are not to be seen. */
  readonly hidden?: readonly string[];
}

/** How often the output of something in the background is looked at, and whether it is gone, ms. */
const lookEveryMs = 20;

/** How long what is left may take to end in order, ms. */
const graceMs = 3_000;

/** One bash that commands are typed into, one after the other: folder, variables and what runs in the background stay. */
export class Shell {
  readonly #notes = mkdtempSync(join(tmpdir(), 'vfio-rx-shell-'));
  readonly #bash: ChildProcess;
  /** The shell ended, by `exit` or by its end. */
  readonly #gone: Promise<undefined>;
  /** Of what follows: the text behind the last whole line of what bash tells us. */
  #told = '';
  #heard: () => void = () => undefined;
  #typed = 0;
  /** Where the shell is. */
  folder: string;

  constructor({ folder, env, hidden = [] }: ShellOptions) {
    this.folder = folder;
    const bash = ['bash', '--noprofile', '--norc'];
    const [program = '', ...args] = hidden.length === 0 ? bash : ['unshare', ...(process.getuid?.() === 0 ? [] : ['--map-root-user']), '--mount', 'sh', '-c', `${hidden.map(hide).join('\n')}\nexec "$@"`, 'sh', ...bash];
    // A group of its own: what it started and left behind ends with it.
    this.#bash = spawn(program, args, { cwd: folder, env, detached: true, stdio: ['pipe', 'ignore', 'inherit', 'pipe'] });
    this.#gone = new Promise((done) => void this.#bash.once('exit', () => done(undefined)));
    // A document may end its shell; what is typed then is answered by its exit code.
    this.#bash.stdin?.on('error', () => undefined);
    (this.#bash.stdio[3] as Readable).setEncoding('utf8').on('data', (text: string) => {
      this.#told += text;
      this.#heard();
    });
  }

  /** Types a command and waits for its end; undefined: it has not ended in time, and the shell is not to be used any more. */
  async type(command: string, deadlineMs: number): Promise<Answer | undefined> {
    const { output, ended } = this.#begin(command);
    const code = await Promise.race([ended, this.#gone.then(() => this.#bash.exitCode ?? 128), after(deadlineMs, undefined, { ref: false })]);
    return code === undefined ? undefined : { output: output(), code };
  }

  /** Types a command that goes on in the background, and waits until it has said what is `enough`. The last it said, if that never comes. */
  async leave(command: string, enough: (output: string) => boolean, deadlineMs: number): Promise<string> {
    const { output, ended } = this.#begin(command);
    const endMs = performance.now() + deadlineMs;
    // What bash says of it would be taken for the answer to what is typed next.
    await Promise.race([ended, this.#gone, after(deadlineMs, undefined, { ref: false })]);
    while (!enough(output()) && performance.now() < endMs) await after(lookEveryMs);
    return output();
  }

  /** Ends the shell and all that it has started. */
  async [Symbol.asyncDispose](): Promise<void> {
    // As by Ctrl-C: a server takes its socket away.
    const endMs = performance.now() + graceMs;
    this.#bash.stdin?.end();
    let left = this.#signal('SIGINT');
    while (left && performance.now() < endMs) {
      await after(lookEveryMs);
      left = this.#signal(0);
    }
    if (left) this.#signal('SIGKILL');
    await this.#gone;
    rmSync(this.#notes, { recursive: true, force: true });
  }

  /** Whether anybody of the group was there to get it. */
  #signal(signal: NodeJS.Signals | 0): boolean {
    try {
      return process.kill(-(this.#bash.pid ?? 0), signal);
    } catch {
      return false;
    }
  }

  #begin(command: string): { readonly output: () => string; readonly ended: Promise<number> } {
    this.#typed += 1;
    const script = join(this.#notes, `${this.#typed}.sh`);
    const out = join(this.#notes, `${this.#typed}.out`);
    writeFileSync(script, `${command}\n`);
    writeFileSync(out, '');
    const ended = new Promise<number>((done) => {
      this.#heard = () => {
        const [, code, folder] = /^(\d+) (.*)\n$/.exec(this.#told) ?? [];
        if (code === undefined || folder === undefined) return;
        this.#told = '';
        this.folder = folder;
        done(Number(code));
      };
    });
    this.#bash.stdin?.write(`. ${script} < /dev/null > ${out} 2>&1 3>&-; printf '%s %s\\n' "$?" "$PWD" >&3\n`);
    return { output: () => readFileSync(out, 'utf8'), ended };
  }
}

/** What is a folder is an empty one, and what is a file is one that cannot be opened as a device; what is not there stays so. */
function hide(path: string): string {
  return `if [ -d '${path}' ]; then mount -t tmpfs -o ro none '${path}' || exit 1; elif [ -e '${path}' ]; then mount --bind /dev/null '${path}' || exit 1; fi`;
}
