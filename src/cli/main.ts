#!/usr/bin/env node
import { CommanderError } from 'commander';
import { finalize, fromEvent, merge, share, Subject } from 'rxjs';
import { VfioError } from '../errors.js';
import { exitCodes } from './commands.js';
import { codeOfFailure } from './exit-code.js';
import { workOf } from './program.js';
import { screenOf } from './screen.js';
import { jsonLine } from './show.js';

/** Whoever read what is said has gone (`vfio-rx watch ... | head`), or the disk that took it is full: as good as Ctrl-C. */
const unread = new Subject<void>();
let lost = false;
/** What the command has said that it ends with. */
let told: number | undefined;
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE' && !lost) {
    lost = true;
    process.stderr.write(`what is said cannot be written: ${error.message}\n`);
    process.exitCode = codeOfFailure(process.argv.slice(2), told);
  }
  unread.next();
});
process.stderr.on('error', () => unread.next());

function main(args: readonly string[]): void {
  const work = workOf(args, screenOf(process.stdout, process.env), merge(fromEvent(process, 'SIGINT'), fromEvent(process, 'SIGTERM'), unread).pipe(share()));
  // A device in this process, or one with no irq armed, holds no event loop: the work does, until it has said what it ends with.
  const holding = setInterval(() => undefined, 2 ** 30);
  const letGo = (): void => clearInterval(holding);
  work.pipe(finalize(letGo)).subscribe({
    next: (code) => {
      letGo();
      told = code;
      process.exitCode = lost ? codeOfFailure(args, code) : code;
    },
    error: (error: unknown) => {
      if (!VfioError.is(error)) throw error;
      if (args.includes('--json')) process.stdout.write(jsonLine({ error }));
      process.stderr.write(`${error.message}\n`);
      process.exitCode = codeOfFailure(args, told);
    },
  });
}

try {
  main(process.argv.slice(2));
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : exitCodes.usage;
  else if (VfioError.is(error)) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = exitCodes.usage;
  } else throw error;
}
