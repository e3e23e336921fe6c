import { describe, expect, it } from 'vitest';
import { arcEffect, hasState, isSaving, pathOf, statesOf, type TargetState } from '../../../src/devices/protocol/migration-states.js';
import { states } from '../../../src/devices/uapi/migration-state.js';

/**
 * Every way on every kind of device, written down from what the kernel's own table yields, arc by arc.
 * Rows: from; entries: to, then the states passed. `!`: blocked. `+s` `+r`: makes a save or resume data_fd; `-s` `-r`: ends one.
 */
const short: Readonly<Record<string, TargetState>> = {
  S: 'stop', R: 'running', C: 'stop-copy', L: 'resuming', P: 'running-p2p', Y: 'pre-copy', Z: 'pre-copy-p2p',
};

const tables: Readonly<Record<number, Readonly<Record<string, readonly string[]>>>> = {
  1: {
    S: ['S =', 'R R', 'C C +s', 'L L +r'],
    R: ['S S', 'R =', 'C SC +s', 'L SL +r'],
    C: ['S S -s', 'R SR -s', 'C =', 'L SL -s +r'],
    L: ['S S -r', 'R SR -r', 'C SC -r +s', 'L ='],
  },
  3: {
    S: ['S =', 'R PR', 'C C +s', 'L L +r', 'P P'],
    R: ['S PS', 'R =', 'C PSC +s', 'L PSL +r', 'P P'],
    C: ['S S -s', 'R SPR -s', 'C =', 'L SL -s +r', 'P SP -s'],
    L: ['S S -r', 'R SPR -r', 'C SC -r +s', 'L =', 'P SP -r'],
    P: ['S S', 'R R', 'C SC +s', 'L SL +r', 'P ='],
  },
  5: {
    S: ['S =', 'R R', 'Y RY +s', 'C C +s', 'L L +r'],
    R: ['S S', 'R =', 'Y Y +s', 'C SC +s', 'L SL +r'],
    Y: ['S RS -s', 'R R -s', 'Y =', 'C C', 'L RSL -s +r'],
    C: ['S S -s', 'R SR -s', 'Y !', 'C =', 'L SL -s +r'],
    L: ['S S -r', 'R SR -r', 'Y SRY -r +s', 'C SC -r +s', 'L ='],
  },
  7: {
    S: ['S =', 'R PR', 'Y PRY +s', 'Z PZ +s', 'C C +s', 'L L +r', 'P P'],
    R: ['S PS', 'R =', 'Y Y +s', 'Z PZ +s', 'C PSC +s', 'L PSL +r', 'P P'],
    Y: ['S RPS -s', 'R R -s', 'Y =', 'Z Z', 'C ZC', 'L RPSL -s +r', 'P RP -s'],
    Z: ['S PS -s', 'R PR -s', 'Y Y', 'Z =', 'C C', 'L PSL -s +r', 'P P -s'],
    C: ['S S -s', 'R SPR -s', 'Y !', 'Z !', 'C =', 'L SL -s +r', 'P SP -s'],
    L: ['S S -r', 'R SPR -r', 'Y SPRY -r +s', 'Z SPZ -r +s', 'C SC -r +s', 'L =', 'P SP -r'],
    P: ['S S', 'R R', 'Y RY +s', 'Z Z +s', 'C SC +s', 'L SL +r', 'P ='],
  },
};

const full = (letter: string): TargetState => {
  const state = short[letter];
  if (state === undefined) throw new Error(`no state is written ${letter}`);
  return state;
};

describe('migration states', () => {
  for (const [flagsText, rows] of Object.entries(tables)) {
    const flags = Number(flagsText);
    it(`flags ${flags}: every way from every state to every state`, () => {
      const asked = new Set<string>();
      for (const [from, entries] of Object.entries(rows)) {
        for (const entry of entries) {
          const [to = '', way = '', ...fds] = entry.split(' ');
          asked.add(`${full(from)} ${full(to)}`);
          const path = pathOf(flags, full(from), full(to));
          const expected = way === '!' ? undefined : way === '=' ? [] : Array.from(way, full);
          expect(path, `${from}${to}`).toEqual(expected);
          const effects = (path ?? []).map((state, n) => arcEffect(n === 0 ? full(from) : (path?.[n - 1] ?? state), state));
          const seen = effects.flatMap(({ ends, makes }) => [ends === undefined ? [] : [`-${ends[0] ?? ''}`], makes === undefined ? [] : [`+${makes[0] ?? ''}`]].flat());
          expect(seen, `${from}${to}`).toEqual(fds);
          // A data_fd is only ever made by the last arc, so that the reply can carry it.
          expect(effects.slice(0, -1).every(({ makes }) => makes === undefined), `${from}${to}`).toBe(true);
        }
      }
      const all = statesOf(flags);
      expect(asked.size).toBe(all.length ** 2);
    });

    it(`flags ${flags}: no way to or from a state that the device lacks, nor ERROR`, () => {
      for (const from of states) {
        for (const to of states) {
          if (hasState(flags, from) && hasState(flags, to)) continue;
          expect(pathOf(flags, from, to), `${from} to ${to}`).toBeUndefined();
        }
      }
    });
  }

  it('has no state without flags', () => {
    expect(statesOf(0)).toEqual([]);
  });

  it('names the saving group', () => {
    expect(states.filter(isSaving)).toEqual(['stop-copy', 'pre-copy', 'pre-copy-p2p']);
  });
});
