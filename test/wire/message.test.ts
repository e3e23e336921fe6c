import { describe, expect, it } from 'vitest';
import { mostTextBytes, type FrameType } from '../../src/wire/frame.js';
import { messageOf } from '../../src/wire/message.js';
import { decoded, encoded } from './arbitraries.js';

function text(type: FrameType, value: string): () => unknown {
  return () => messageOf({ type, device: 0, payload: new TextEncoder().encode(value), crc: 0 });
}

describe('a message', () => {
  it('that is no JSON, or other JSON, is a typed error that says where', () => {
    expect(text('hello', '{')).toThrow('the hello is no JSON [VFIO_E_STREAM]');
    expect(() => messageOf({ type: 'hello', device: 0, payload: Uint8Array.of(0xff, 0xfe), crc: 0 })).toThrow('no JSON');
    expect(text('hello', '{"protocol":"smtp"}')).toThrow('hello: protocol');
    expect(text('welcome', '[]')).toThrow('[VFIO_E_STREAM]');
    expect(text('abort', '{"code":1}')).toThrow('abort: code');
  });

  it('gives a reason of any length, cut to what is read', () => {
    const long = 'x'.repeat(mostTextBytes * 2);
    const { messages } = decoded([encoded([{ type: 'abort', reason: { code: long, message: long } }])]);
    expect(messages).toEqual([{ type: 'abort', reason: { code: 'x'.repeat(100), message: 'x'.repeat(mostTextBytes / 64) } }]);
  });
});
