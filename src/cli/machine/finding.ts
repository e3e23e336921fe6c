/** Something that was looked at. */
export interface Finding {
  /** What was looked at, in a word or two; the same word for the same thing. */
  readonly about: string;
  /** `note`: it works, and there is something to know. */
  readonly level: 'ok' | 'note' | 'wrong';
  readonly says: string;
  /** Commands that change it, in their order; none of them was run. */
  readonly mend: readonly string[];
}

export function ok(about: string, says: string): Finding {
  return { about, level: 'ok', says, mend: [] };
}

export function note(about: string, says: string, mend: readonly string[] = []): Finding {
  return { about, level: 'note', says, mend };
}

export function wrong(about: string, says: string, mend: readonly string[] = []): Finding {
  return { about, level: 'wrong', says, mend };
}
