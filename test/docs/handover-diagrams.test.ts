import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { destinationStep, type DestinationEvent, type DestinationPhase } from '../../src/wire/handover-destination.js';
import { sourceStep, type SourceEvent, type SourcePhase } from '../../src/wire/handover-source.js';
import { readPage } from './pages.js';

/** The handover of docs/protocol.md is what the two machines do: the same messages and entries of journals, in the same order. */

const page = readPage(join(resolve(import.meta.dirname, '../..'), 'docs/protocol.md'));
const [commit = '', doubt = ''] = [...page.matchAll(/^```mermaid\nsequenceDiagram\n {2}participant S as source\n([\s\S]*?)^```$/gm)].map(([, text = '']) => text);

/** `S->D commit`, `D journal prepared`, `D run`: what a diagram says of them. */
function saidIn(diagram: string): readonly string[] {
  return diagram.split('\n').flatMap((line) => {
    const [, from = '', to = '', text = ''] = /^ *([SD])(?:->>|--x)([SD]): (.*)$/.exec(line) ?? [];
    const message = /\b(PREPARED|COMMIT|CONFIRMED|NEVER RAN)\b/.exec(text)?.[1];
    if (message !== undefined) return [`${from}->${to} ${message.toLowerCase().replace(' ', '-')}`];
    const [, at = '', note = ''] = /^ *Note over ([SD]): (.*)$/.exec(line) ?? [];
    if (note.includes('go to STOP')) return [`${at} release`];
    const entry = /^journal: (prepared|decided|running|never ran|taken back)/.exec(note)?.[1];
    const names: Readonly<Record<string, string>> = { 'never ran': 'discarded', 'taken back': 'taken-back' };
    return [...(entry === undefined ? [] : [`${at} journal ${names[entry] ?? entry}`]), ...(/devices run/.test(note) ? [`${at} run`] : [])];
  });
}

/** Both machines, with a disk that always writes and a link that can be cut. */
class Both {
  readonly done: string[] = [];
  linked = true;
  #source: SourcePhase = 'moving';
  #destination: DestinationPhase = 'loading';

  atSource(event: SourceEvent): void {
    const { phase, acts } = sourceStep(this.#source, event);
    this.#source = phase;
    for (const act of acts) {
      if (act.act === 'send') this.#send('S->D', act.message, () => this.atDestination(act.message));
      else this.done.push(act.act === 'record' ? `S journal ${act.record}` : `S ${act.act}`);
      if (act.act === 'record') this.atSource('recorded');
    }
  }

  atDestination(event: DestinationEvent): void {
    const { phase, acts } = destinationStep(this.#destination, event);
    this.#destination = phase;
    for (const act of acts) {
      if (act.act === 'send') this.#send('D->S', act.message, () => this.atSource(act.message === 'abort' ? 'failed' : act.message));
      else this.done.push(act.act === 'record' ? `D journal ${act.record}` : `D ${act.act}`);
      if (act.act === 'record') this.atDestination('recorded');
      if (act.act === 'run') this.atDestination('ran');
    }
  }

  /** The connection is gone with the next message, and both hear of it. */
  #send(way: string, message: string, arrives: () => void): void {
    this.done.push(`${way} ${message}`);
    if (this.linked) arrives();
  }
}

/** As far as the machines go by themselves: what is discarded, and that it is in doubt, is no line of a diagram. */
function shown({ done }: Both): readonly string[] {
  return done.filter((what) => !/ (doubt|discard)$/.test(what));
}

function inDoubt(): Both {
  const both = new Both();
  both.linked = false;
  both.atDestination('loaded');
  both.atSource('prepared');
  both.atSource('lost');
  both.atDestination('lost');
  expect(both.done.filter((what) => what.endsWith('doubt'))).toEqual(['S doubt', 'D doubt']);
  return both;
}

describe('the handover in docs/protocol.md', () => {
  it('is a commit', () => {
    const both = new Both();
    both.atDestination('loaded');
    expect(saidIn(commit)).toEqual(shown(both));
    expect(saidIn(commit).length).toBe(8);
  });

  const [before = '', confirmed = '', neverRan = ''] = doubt.split(/^ *(?:alt|else) .*\n/m);

  it('is in doubt, and confirmed when both meet again', () => {
    const both = inDoubt();
    const known = both.done.length;
    both.linked = true;
    both.atSource('connected');
    expect(saidIn(before)).toEqual(['S->D commit', 'S->D commit']);
    // What the destination does in between stands in the diagram above.
    expect([...saidIn(before).slice(1), ...saidIn(confirmed), 'S release']).toEqual(both.done.slice(known).filter((what) => !/^D (journal|run)/.test(what)));
  });

  it('is in doubt, and taken back when the destination has given up', () => {
    const both = inDoubt();
    both.atDestination('give-up');
    expect(both.done.at(-3)).toBe(saidIn(neverRan)[0]);
    const known = both.done.length;
    both.linked = true;
    both.atSource('connected');
    expect([...saidIn(before).slice(1), ...saidIn(neverRan).slice(1)]).toEqual(both.done.slice(known));
  });
});
