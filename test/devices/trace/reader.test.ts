import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { entryLine, headerLine, type TraceEntry, type TraceHeader } from '../../../src/devices/trace/entry.js';
import { readTrace } from '../../../src/devices/trace/reader.js';
import { VfioError } from '../../../src/errors.js';
import { runs } from './arbitraries.js';

const header: TraceHeader = { device: 'vf0', atNs: 0n, pageSize: 4096, remapInOneTurn: true, syncAccess: true, dataBytes: 64 };

function written(entries: readonly TraceEntry[], first: TraceHeader = header): string {
  return [headerLine(first), ...entries.map(entryLine)].map((line) => `${line}\n`).join('');
}

const call = (id: number, atNs = BigInt(id)): TraceEntry => ({ kind: 'call', atNs, call: id, name: 'reset', args: {} });
const end = (atNs: bigint): TraceEntry => ({ kind: 'end', atNs });

function reads(text: string | Uint8Array, limits = {}): readonly [number, string | undefined, string | undefined] {
  const { entries, incomplete } = readTrace(text, limits);
  return [entries.length, incomplete?.code, incomplete?.message];
}

describe('readTrace', () => {
  it('reads what was written', () => {
    fc.assert(fc.property(runs, (run) => { expect(readTrace(written(run.entries, run.header))).toEqual(run); }));
  });

  it('cut off at any byte, reads what is whole and says that the rest is missing', () => {
    fc.assert(
      fc.property(runs, fc.nat(), (run, at) => {
        const whole = Buffer.from(written(run.entries, run.header));
        const cut = whole.subarray(0, at % whole.length);
        if (cut.length < Buffer.byteLength(headerLine(run.header))) {
          expect(() => readTrace(cut)).toThrow(expect.objectContaining({ code: 'VFIO_E_TRACE' }) as Error);
          return;
        }
        const { entries, incomplete } = readTrace(cut);
        const complete = cut.length >= whole.length - 1;
        expect(entries).toEqual(run.entries.slice(0, entries.length));
        expect(incomplete?.code).toBe(complete ? undefined : 'VFIO_E_TRACE');
        // Nothing that is whole is lost.
        expect(entries.length).toBeGreaterThanOrEqual(cut.toString('utf8').split('\n').length - 2);
      }),
      { numRuns: 300 },
    );
  });

  it('with any byte changed, gives what stands before the damage, or another valid trace; never anything else', () => {
    fc.assert(
      fc.property(runs, fc.nat(), fc.nat(255), (run, at, value) => {
        const bytes = Buffer.from(written(run.entries, run.header));
        const place = at % bytes.length;
        bytes[place] = value;
        try {
          const { entries } = readTrace(bytes);
          const line = bytes.subarray(0, place).toString('latin1').split('\n').length - 2;
          expect(entries.slice(0, Math.max(0, line))).toEqual(run.entries.slice(0, Math.max(0, line)).slice(0, entries.length));
        } catch (error) {
          if (!VfioError.is(error)) throw error;
          expect(['VFIO_E_TRACE', 'VFIO_E_TRACE_VERSION']).toContain(error.code);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('of any bytes at all says that they are no trace', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => { expect(() => readTrace(bytes)).toThrow(expect.objectContaining({ code: 'VFIO_E_TRACE' }) as Error); }));
  });

  it('says what is wrong, in which line, and how much was read', () => {
    const two = [call(1), call(2)];
    expect(reads(written([...two, end(3n)]))).toEqual([3, undefined, undefined]);
    expect(reads(written(two))).toEqual([2, 'VFIO_E_TRACE', 'read trace: line 4: cut off: the recording has no end; the 2 entries before it were read [VFIO_E_TRACE]']);
    expect(reads(written(two).slice(0, -5))).toEqual([1, 'VFIO_E_TRACE', 'read trace: line 3: cut off within the line; the entry before it was read [VFIO_E_TRACE]']);
    expect(reads(`${written(two)}\u{0}\n`)[2]).toBe('read trace: line 4: damaged: not an object in JSON; the 2 entries before it were read [VFIO_E_TRACE]');
    expect(reads(`${written(two)}{"at":"4","call":9,"do":"reset","with":{}}\n`)[2]).toContain('line 4: damaged: call 9 follows call 2');
    expect(reads(written([...two, end(1n)]))[2]).toContain('line 4: damaged: time goes back, from 2 to 1');
    expect(reads(written([call(1), { kind: 'answer', atNs: 2n, call: 1, name: 'getState', outcome: { value: 'running' } }]))[2]).toContain('no getState 1 is waiting for an answer');
    expect(reads(written([call(1), { kind: 'detach', atNs: 2n, call: 2 }]))[2]).toContain('no call 2 is waiting for an answer');
    expect(reads(written([end(1n), end(1n)]))[2]).toContain('line 3: there is something behind the end');
    expect(reads(Buffer.concat([Buffer.from(written(two)), Buffer.from([0xff, 0x0a])]))[2]).toContain('line 4: damaged');
    expect(() => readTrace('')).toThrow('line 1: empty; nothing can be read');
    expect(() => readTrace('', {}, 'run.jsonl')).toThrow('run.jsonl: read trace');
  });

  it.each([
    ['another text', 'hello\n', 'not the header of a trace, {"vfio-rx-trace":1,...}; vfio-rx record writes them', 'VFIO_E_TRACE'],
    ['half a header', headerLine(header).slice(0, 30), 'not the header of a trace, {"vfio-rx-trace":1,...}; vfio-rx record writes them', 'VFIO_E_TRACE'],
    ['a header that lies', headerLine(header).replace('"0"', '0'), 'atNs: expected a decimal string of 1 to 20 digits', 'VFIO_E_TRACE'],
    ['one of the future', headerLine(header).replace('trace":1', 'trace":7'), 'the trace has version 7; this library reads version 1', 'VFIO_E_TRACE_VERSION'],
  ])('of %s says once that it is no trace, and which file', (_, text, why, code) => {
    expect(() => readTrace(text, {}, 'run.jsonl')).toThrow(expect.objectContaining({ code, message: `run.jsonl: read trace: line 1: ${why}; nothing can be read [${code}]` }) as Error);
  });

  it('reads on behind a gap that the recorder has told of', () => {
    const gap: readonly TraceEntry[] = [call(1), { kind: 'dropped', atNs: 2n, lines: 3 }, { kind: 'answer', atNs: 3n, call: 3, name: 'reset', outcome: { value: undefined } }, call(7), end(9n)];
    expect(reads(written(gap))).toEqual([5, undefined, undefined]);
    expect(reads(written([...gap.slice(0, 4), call(7, 8n)]))[2]).toContain('call 7 follows call 7');
  });

  it('stops at its limits', () => {
    const text = written([call(1), call(2), call(3), end(4n)]);
    expect(reads(text, { maxLines: 4 })).toEqual([4, undefined, undefined]);
    expect(reads(text, { maxLines: 2 })).toEqual([2, 'VFIO_E_LIMIT', expect.stringContaining('line 4: the trace has more than 2 entries')]);
    expect(reads(text, { maxBytes: text.length })).toEqual([4, undefined, undefined]);
    expect(reads(text, { maxBytes: text.length - 1 })).toEqual([3, 'VFIO_E_LIMIT', expect.stringContaining(`line 5: the trace has more than ${text.length - 1} bytes`)]);
    expect(() => readTrace(text, { maxLineBytes: 50 })).toThrow(expect.objectContaining({ code: 'VFIO_E_LIMIT' }) as Error);
    const long = `{"at":"4","call":4,"do":"reset","with":{"x":"${'x'.repeat(500)}"}}\n`;
    expect(reads(`${written([call(1)])}${long}`, { maxLineBytes: 300 })).toEqual([1, 'VFIO_E_LIMIT', expect.stringContaining('line 3: longer than 300 bytes')]);
  });

  it('takes a line that nests deeper than any stack for damage', () => {
    const deep = `{"at":"1","call":1,"do":"info","with":${'['.repeat(200_000)}${']'.repeat(200_000)}}\n`;
    expect(reads(`${written([])}${deep}`)[1]).toBe('VFIO_E_TRACE');
  });
});
