import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { entryLine, headerLine, readEntry, readHeader, type TraceEntry } from '../../../src/devices/trace/entry.js';
import { calls } from '../../../src/devices/trace/calls.js';
import { errorOf, traceError } from '../../../src/devices/trace/values.js';
import { errnoError, VfioError } from '../../../src/errors.js';
import { callArbitraries, callNames, headers, runs } from './arbitraries.js';

const atNs = 12_345_678_901_234_567_890n;

describe('a line of a trace', () => {
  it('reads as what it says', () => {
    const lines: readonly [TraceEntry, string][] = [
      [{ kind: 'call', atNs, call: 1, name: 'map', args: { region: 0, offset: 0, size: 65536 }, outcome: { value: undefined } }, '{"at":"12345678901234567890","call":1,"do":"map","with":{"region":0,"offset":0,"size":65536},"is":null}'],
      [{ kind: 'call', atNs, call: 2, name: 'setState', args: { to: 'pre-copy' } }, '{"at":"12345678901234567890","call":2,"do":"setState","with":{"to":"pre-copy"}}'],
      [{ kind: 'answer', atNs, call: 2, name: 'setState', outcome: { value: { state: 'pre-copy', data: 'save' } } }, '{"at":"12345678901234567890","answer":2,"do":"setState","is":{"state":"pre-copy","data":"save"}}'],
      [{ kind: 'call', atNs, call: 3, name: 'irq.ack', args: { irq: [1, 0], count: 2n ** 63n } }, '{"at":"12345678901234567890","call":3,"do":"irq.ack","with":{"irq":[1,0],"count":"9223372036854775808"}}'],
      [
        { kind: 'call', atNs, call: 4, name: 'access', args: { region: 7, offset: 0, write: { size: 4096, kept: new Uint8Array([0xfe, 0xed]) } } },
        '{"at":"12345678901234567890","call":4,"do":"access","with":{"region":7,"offset":0,"write":{"size":4096,"hex":"feed"}}}',
      ],
      [{ kind: 'detach', atNs, call: 2 }, '{"at":"12345678901234567890","detach":2}'],
      [{ kind: 'released', atNs, what: 'device closed', inside: 5 }, '{"at":"12345678901234567890","released":"device closed","inside":5}'],
      [{ kind: 'released', atNs, what: undefined }, '{"at":"12345678901234567890","released":null}'],
      [{ kind: 'dropped', atNs, lines: 12 }, '{"at":"12345678901234567890","dropped":12}'],
      [{ kind: 'end', atNs }, '{"at":"12345678901234567890","end":true}'],
    ];
    for (const [entry, line] of lines) {
      expect(entryLine(entry)).toBe(line);
      expect(readEntry(line)).toEqual(entry);
    }
  });

  it('comes back as it was written, for every call', () => {
    expect([...callNames].sort()).toEqual(Object.keys(calls).sort());
    for (const name of callNames) {
      const { args, answer } = callArbitraries[name] as { readonly args: fc.Arbitrary<unknown>; readonly answer: fc.Arbitrary<unknown> };
      fc.assert(
        fc.property(args, answer, (given, came) => {
          for (const outcome of [{}, { outcome: { value: came } }]) {
            const entry = { kind: 'call', atNs: 7n, call: 1, name, args: given, ...outcome } as TraceEntry;
            expect(readEntry(entryLine(entry))).toEqual(entry);
          }
        }),
        { numRuns: 30 },
      );
    }
    fc.assert(fc.property(runs, ({ entries }) => { expect(entries.map(entryLine).map(readEntry)).toEqual(entries); }));
    fc.assert(fc.property(headers, (header) => { expect(readHeader(headerLine(header))).toEqual(header); }));
  });

  it('tells errors again as they were', () => {
    const errors = [
      errnoError('ENOMEM', 'mmap', 'vf0'),
      errnoError('EPERM', 'open'),
      new VfioError('VFIO_E_CLOSED', 'this device is closed [again] (sic)', { operation: 'mmap: x', device: 'a: b' }),
    ];
    for (const error of errors) {
      const again = errorOf(traceError(error));
      expect(VfioError.is(again) && [again.code, again.message, again.operation, again.device, again.errno]).toEqual([error.code, error.message, error.operation, error.device, error.errno]);
    }
    expect(errorOf(traceError(new TypeError('no')))).toEqual(new Error('no'));
    expect(errorOf(traceError('text'))).toEqual(new Error('text'));
  });

  for (const [line, what] of [
    ['', 'not an object in JSON'],
    ['[]', 'not an object in JSON'],
    ['{"at":"1","call":1,"do":"map","with":{"region":0,"offset":0', 'not an object in JSON'],
    ['{"at":1,"end":true}', 'at: expected a decimal string'],
    ['{"at":"123456789012345678901","end":true}', 'at: expected a decimal string'],
    ['{"at":"-1","end":true}', 'at: expected a decimal string'],
    ['{"at":"1"}', 'none of call, answer'],
    ['{"at":"1","call":1,"do":"launch","with":{}}', 'a port has no call launch'],
    ['{"at":"1","call":1,"do":"constructor","with":{}}', 'a port has no call constructor'],
    [`{"at":"1","call":1,"do":"${'x'.repeat(500)}"}`, `a port has no call ${'x'.repeat(40)}...`],
    ['{"at":"1","call":1,"do":"map","with":{"region":0,"offset":-4096,"size":4096}}', 'with.offset: expected a whole number'],
    ['{"at":"1","call":1,"do":"map","with":{"region":0,"offset":0}}', 'with.size: expected a whole number'],
    ['{"at":"1","call":1,"do":"map"}', 'with'],
    ['{"at":"1","call":1.5,"do":"info","with":{}}', 'call: expected a whole number'],
    ['{"at":"1","answer":1,"do":"getState","is":"flying"}', 'is: expected'],
    ['{"at":"1","answer":1,"do":"reset"}', 'is: expected null'],
    ['{"at":"1","answer":1,"do":"reset","fails":{"code":"VFIO_E_NEW","message":"","operation":"","device":null,"errno":null}}', 'fails.code: expected an error code'],
    ['{"at":"1","call":1,"do":"access","with":{"region":0,"offset":0,"write":{"size":1,"hex":"feed"}}}', 'with.write: expected {"size"'],
  ] as const) {
    it(`refuses ${line.slice(0, 70)}`, () => {
      expect(() => readEntry(line)).toThrow(expect.objectContaining({ code: 'VFIO_E_TRACE', message: expect.stringContaining(what) as string }) as Error);
    });
  }

  it('leaves fields alone that it does not know, and takes no field of an object for its own', () => {
    expect(readEntry('{"at":"1","end":true,"why":"?","__proto__":{"call":1}}')).toEqual({ kind: 'end', atNs: 1n });
    expect(readEntry('{"at":"1","call":1,"do":"info","with":{"more":1},"future":[]}')).toEqual({ kind: 'call', atNs: 1n, call: 1, name: 'info', args: {} });
  });

  it('knows a newer header, and one that is none', () => {
    const good = '{"vfio-rx-trace":1,"device":"vf0","atNs":"5","pageSize":4096,"remapInOneTurn":true,"syncAccess":true,"dataBytes":64}';
    expect(readHeader(good)).toMatchObject({ device: 'vf0', atNs: 5n });
    expect(() => readHeader(good.replace('trace":1', 'trace":2'))).toThrow(expect.objectContaining({ code: 'VFIO_E_TRACE_VERSION' }) as Error);
    for (const bad of ['{}', 'null', '', good.slice(0, -1), good.replace('"5"', '5'), good.replace('trace":1', 'trace":"1"')]) {
      expect(() => readHeader(bad), bad).toThrow(expect.objectContaining({ code: 'VFIO_E_TRACE' }) as Error);
    }
  });
});
