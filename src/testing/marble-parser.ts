import { durationAtStart, framesIn, type FrameUnit } from './frames.js';

/**
 * One event of a marble string. `name` is what stands there (`a`, `revoke0`); `|`, `#`, `^` and `!` are events of their
 * own kinds; `begin` and `end` are the brackets of a call in flight on a device lane.
 */
export interface Mark {
  readonly frame: number;
  readonly kind: 'next' | 'complete' | 'error' | 'subscribe' | 'unsubscribe' | 'begin' | 'end';
  readonly name: string;
  /** An event of a device lane that failed: `<q0#>`, `]#`. */
  readonly failed?: boolean;
}

/** Where a string is used decides which signs are special in it. */
export type MarbleUse = 'values' | 'subscription' | 'lane';

const signs: Readonly<Record<MarbleUse, Readonly<Record<string, Mark['kind']>>>> = {
  values: { '|': 'complete', '#': 'error', '^': 'subscribe' },
  subscription: { '^': 'subscribe', '!': 'unsubscribe' },
  lane: {},
};

/** Reads a marble string; `docs/marbles.md` has the notation. Throws with the column of what it cannot read. */
export function parseMarbles(text: string, use: MarbleUse, unit: FrameUnit): readonly Mark[] {
  return new Parser(text, use, unit).parse();
}

class Parser {
  readonly #text: string;
  readonly #use: MarbleUse;
  readonly #unit: FrameUnit;
  readonly #marks: Mark[] = [];
  #at = 0;
  #frame = 0;
  #group: number | undefined;

  constructor(text: string, use: MarbleUse, unit: FrameUnit) {
    this.#text = text;
    this.#use = use;
    this.#unit = unit;
  }

  parse(): readonly Mark[] {
    while (this.#at < this.#text.length) this.#token();
    if (this.#group !== undefined) throw this.#mistake('the group has no closing ")"');
    return this.#marks;
  }

  /** Every token takes one frame, brackets of a group too (as in rxjs); blanks take none. */
  #token(): void {
    const sign = String.fromCodePoint(this.#text.codePointAt(this.#at) ?? 0);
    if (/\s/.test(sign)) {
      this.#at += sign.length;
      return;
    }
    if (this.#progressTime()) return;
    if (sign === '(') this.#open();
    else if (sign === ')') this.#close();
    else if (sign === '-') this.#nothing();
    else this.#event(sign);
    this.#frame += 1;
  }

  #progressTime(): boolean {
    if (this.#at > 0 && !/\s/.test(this.#text.charAt(this.#at - 1))) return false;
    const [duration] = durationAtStart.exec(this.#text.slice(this.#at)) ?? [];
    if (duration === undefined) return this.#refuseGluedDuration();
    const end = this.#at + duration.length;
    if (end < this.#text.length && !/\s/.test(this.#text.charAt(end))) return this.#refuseGluedDuration();
    if (this.#group !== undefined) throw this.#mistake('no time passes inside a group');
    this.#frame += this.#framesIn(duration);
    this.#at = end;
    return true;
  }

  /** `5ms|` would silently mean the three values 5, m and s. */
  #refuseGluedDuration(): false {
    if (/^\d+(?:\.\d+)?(?:us|ms)/.test(this.#text.slice(this.#at))) throw this.#mistake('a duration stands between blanks: "-- 5ms |"');
    return false;
  }

  #framesIn(duration: string): number {
    try {
      return framesIn(duration, this.#unit) ?? 0;
    } catch (error) {
      throw this.#mistake(error instanceof Error ? error.message : String(error));
    }
  }

  #open(): void {
    if (this.#group !== undefined) throw this.#mistake('a group inside a group');
    this.#group = this.#frame;
    this.#at += 1;
  }

  #close(): void {
    if (this.#group === undefined) throw this.#mistake('")" without a "("');
    this.#group = undefined;
    this.#at += 1;
  }

  #nothing(): void {
    if (this.#group !== undefined) throw this.#mistake('no time passes inside a group');
    this.#at += 1;
  }

  #event(sign: string): void {
    if (this.#use === 'lane' && (sign === '[' || sign === ']')) this.#bracket(sign);
    else if (sign === '<') this.#named('');
    else {
      this.#add(sign);
      this.#at += sign.length;
    }
  }

  /** `[s`, `[<pre-copy>` and `]`, `]#`: one frame each. */
  #bracket(sign: '[' | ']'): void {
    this.#at += 1;
    if (sign === ']') {
      const failed = this.#text.charAt(this.#at) === '#';
      if (failed) this.#at += 1;
      this.#add(failed ? ']#' : ']');
      return;
    }
    const label = this.#text.charAt(this.#at);
    if (label === '<') this.#named('[');
    else if (label === '' || /[\s\-()[\]|#]/.test(label)) throw this.#mistake('"[" needs the name of the state right behind it: "[s---]" or "[<pre-copy>---]"');
    else {
      this.#add(`[${label}`);
      this.#at += label.length;
    }
  }

  /** `<name>` and `<a,b,c>`: one frame. */
  #named(prefix: string): void {
    const end = this.#text.indexOf('>', this.#at);
    if (end < 0) throw this.#mistake('"<" without a ">"');
    const names = this.#text.slice(this.#at + 1, end).split(',');
    for (const [index, name] of names.entries()) {
      if (name.trim() === '') throw this.#mistake('an empty name');
      this.#add(`${index === 0 ? prefix : ''}${name.trim()}`);
    }
    this.#at = end + 1;
  }

  #add(name: string): void {
    const frame = this.#group ?? this.#frame;
    if (this.#use === 'lane') {
      this.#marks.push(laneMark(frame, name));
      return;
    }
    const kind = signs[this.#use][name] ?? 'next';
    if (this.#use === 'subscription' && kind === 'next') throw this.#mistake(`only "^" and "!" stand in subscription marbles, not "${name}"`);
    if (this.#use === 'values' && name === '!') throw this.#mistake('"!" belongs into subscription marbles');
    this.#marks.push({ frame, kind, name });
  }

  #mistake(what: string): Error {
    return new Error(`marbles "${this.#text}", column ${this.#at}: ${what}`);
  }
}

function laneMark(frame: number, text: string): Mark {
  const failed = text.length > 1 && text.endsWith('#');
  const name = failed ? text.slice(0, -1) : text;
  const rest = failed ? { failed } : {};
  if (name === ']') return { frame, kind: 'end', name: '', ...rest };
  if (name.startsWith('[')) return { frame, kind: 'begin', name: name.slice(1), ...rest };
  return { frame, kind: 'next', name, ...rest };
}
