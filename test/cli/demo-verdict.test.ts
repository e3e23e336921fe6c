import { describe, expect, it } from 'vitest';
import { demoVerdict } from '../../src/cli/demo-verdict.js';

const guest = { received: 5, duplicates: 0, highest: 5, byMap: 3, byTrap: 2, missing: 0 };
const held = { violations: 0, opens: 0, vmas: 0, irqs: 0, waiters: 0 };

const wrong = (change: object, mailbox: object = {}, sent = 5): readonly string[] =>
  demoVerdict({ ...held, mailbox: { guests: [{ ...guest, ...mailbox }], stale: 0 }, ...change }, 0, sent).filter(({ good }) => !good).map(({ what }) => what);

describe('the verdict', () => {
  it('is good where the device says what the guest says', () => expect(wrong({})).toEqual([]));

  it.each([
    ['every number arrived once', {}, { received: 4 }],
    ['every number arrived once', {}, { duplicates: 1 }],
    ['every number arrived once', {}, { missing: 1 }],
    ['the guest went on without its mapping', {}, { byTrap: 0 }],
    ['the guest went on without its mapping', {}, { byMap: 0 }],
    ['nothing came through memory that was taken away', { mailbox: { guests: [guest], stale: 1 } }, {}],
    ['no rule of the driver was broken', { violations: 1 }, {}],
    ['nothing is held after the close', { vmas: 1 }, {}],
    ['nothing is held after the close', { opens: 1 }, {}],
  ])('is bad: %s (%j %j)', (what, change, mailbox) => expect(wrong(change, mailbox)).toEqual([what]));

  it('is bad where nothing was written', () => expect(wrong({}, { received: 0 }, 0)).toEqual(['every number arrived once']));
});
