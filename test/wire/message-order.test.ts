import { describe, expect, it } from 'vitest';
import type { Hello } from '../../src/wire/hello.js';
import { MessageOrder } from '../../src/wire/message-order.js';
import type { Message } from '../../src/wire/message.js';

const kind: Hello['devices'][number] = { destination: 'vf0', generation: 2, pci: true, irqs: 1, regions: [] };
const words: Readonly<Record<string, Message>> = {
  h: { type: 'hello', hello: { protocol: 'vfio-rx migration', versions: [1, 1], migration: 'm', purpose: 'migrate', devices: [kind, kind] } },
  r: { type: 'hello', hello: { protocol: 'vfio-rx migration', versions: [1, 1], migration: 'm', purpose: 'resolve', devices: [] } },
  w: { type: 'welcome', welcome: { version: 1, migration: 'm', windowBytes: 1, chunkBytes: 1 } },
  d: { type: 'data', device: 0, bytes: Uint8Array.of(1), crc: 0 }, D: { type: 'data', device: 1, bytes: Uint8Array.of(1), crc: 0 }, x: { type: 'data', device: 2, bytes: Uint8Array.of(1), crc: 0 },
  e: { type: 'end', device: 0, bytes: 1n, crc: 0 }, E: { type: 'end', device: 1, bytes: 1n, crc: 0 },
  c: { type: 'credit', device: 1, bytes: 1 }, y: { type: 'credit', device: 2, bytes: 1 },
  s: { type: 'switch-over' }, o: { type: 'switch-over-ok' }, p: { type: 'prepared' }, C: { type: 'commit' }, f: { type: 'confirmed' },
  a: { type: 'abort', reason: { code: '', message: '' } }, n: { type: 'never-ran' },
};

/** How many messages of the sentence are taken. */
function taken(order: MessageOrder, sentence: string): number {
  let n = 0;
  try {
    for (const letter of sentence) {
      order.accept(words[letter] as Message);
      n += 1;
    }
  } catch (error) {
    expect(error).toMatchObject({ code: 'VFIO_E_STREAM' });
  }
  return n;
}

describe('the order of messages', () => {
  it.each(['hdDsdDeEC', 'hsEeC', 'hddsdeDEC', 'ha', 'hdsa', 'hsEeCa', 'rC', 'ra'])('of the source may be %s', (sentence) => {
    expect(taken(new MessageOrder('source'), sentence)).toBe(sentence.length);
  });

  it.each(['d', 'C', 'a', 'hh', 'hw', 'hx', 'he', 'hdDe', 'hsed', 'hsee', 'hss', 'hC', 'hsC', 'hseC', 'hsEeCC', 'had', 'hp', 'rd', 'rs', 'rCC'])('of the source may not be %s', (sentence) => {
    expect(taken(new MessageOrder('source'), sentence)).toBe(sentence.length - 1);
  });

  it.each(['wccocpf', 'wcopn', 'a', 'wa', 'wn'])('of the destination may be %s', (sentence) => {
    expect(taken(new MessageOrder('destination', { devices: 2, resolving: false }), sentence)).toBe(sentence.length);
  });

  it.each(['c', 'p', 'f', 'ww', 'wh', 'wy', 'wp', 'woo', 'wopp', 'wof', 'wopff', 'wnf', 'waa', 'wC'])('of the destination may not be %s', (sentence) => {
    expect(taken(new MessageOrder('destination', { devices: 2, resolving: false }), sentence)).toBe(sentence.length - 1);
  });

  it('is short where a migration is resolved', () => {
    const resolving = { devices: 0, resolving: true };
    expect(['wf', 'wn', 'wa'].map((sentence) => taken(new MessageOrder('destination', resolving), sentence))).toEqual([2, 2, 2]);
    expect(['wc', 'wo', 'wp'].map((sentence) => taken(new MessageOrder('destination', resolving), sentence))).toEqual([1, 1, 1]);
  });
});
