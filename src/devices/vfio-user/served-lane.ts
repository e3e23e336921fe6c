import { defer, Subject, takeUntil, type Observable } from 'rxjs';
import type { Answer, Reply } from './connection.js';
import type { CommandName } from './messages/header.js';

/** A command that has come. */
export interface ServedCommand {
  readonly name: CommandName | undefined;
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
  readonly answer: Answer;
}

/** What a lane needs of its connection. */
export interface LaneParts {
  /** One command; it takes the fds that it keeps out of `fds`. One that completes without a reply is answered by somebody else. */
  readonly serve: (command: ServedCommand, fds: number[]) => Observable<Reply>;
  readonly errnoOf: (error: unknown) => number;
  readonly closeFds: (fds: readonly number[]) => void;
  /** After each command. */
  readonly moved: () => void;
  /** An answer could not be sent. */
  readonly failed: (error: unknown) => void;
}

/** Commands that are served one after the other and answered in their order. */
export class ServedLane {
  readonly #parts: LaneParts;
  readonly #waiting: ServedCommand[] = [];
  readonly #ended = new Subject<void>();
  #bytes = 0;
  #fds = 0;
  #serving = false;
  #looping = false;
  #over = false;

  constructor(parts: LaneParts) {
    this.#parts = parts;
  }

  /** How many wait. */
  get length(): number {
    return this.#waiting.length;
  }

  /** What they take of memory, about. */
  get bytes(): number {
    return this.#bytes;
  }

  /** How many fds wait with them. */
  get fds(): number {
    return this.#fds;
  }

  push(command: ServedCommand): void {
    if (this.#over) {
      this.#parts.closeFds(command.fds);
      return;
    }
    this.#waiting.push(command);
    this.#bytes += sizeOf(command);
    this.#fds += command.fds.length;
    this.#proceed();
  }

  /** Nothing further is begun, and what a call of the port brings home now is the port's to dispose of: nobody waits for it. */
  end(): void {
    this.#over = true;
    for (const { fds } of this.#waiting.splice(0)) this.#parts.closeFds(fds);
    this.#ended.next();
  }

  /** A loop: a client decides how many wait, and the stack has room for a few hundred that are answered at once. */
  #proceed(): void {
    if (this.#looping) return;
    this.#looping = true;
    while (!this.#serving && !this.#over) {
      const one = this.#waiting.shift();
      if (one === undefined) break;
      this.#begin(one);
    }
    this.#looping = false;
  }

  #begin(one: ServedCommand): void {
    this.#bytes -= sizeOf(one);
    this.#fds -= one.fds.length;
    const fds = [...one.fds];
    let reply: Reply | undefined;
    const done = (error?: unknown): void => {
      this.#parts.closeFds(fds.splice(0));
      this.#serving = false;
      if (this.#over) return;
      try {
        if (error !== undefined) one.answer(this.#parts.errnoOf(error));
        else if (reply !== undefined) one.answer(reply.payload, reply.fds);
      } catch (cause) {
        this.#parts.failed(cause);
        return;
      }
      this.#parts.moved();
      this.#proceed();
    };
    this.#serving = true;
    defer(() => this.#parts.serve(one, fds)).pipe(takeUntil(this.#ended)).subscribe({
      next: (answer) => (reply = answer),
      error: (error: unknown) => done(error ?? new Error('a call failed without an error')),
      complete: () => done(),
    });
  }
}

/** What a command counts for beside its payload, bytes: so that a bound in bytes bounds their number, too. */
const commandBytes = 1024;

function sizeOf({ payload }: ServedCommand): number {
  return payload.length + commandBytes;
}
