import * as t from 'io-ts';
import { errorCodes, VfioError, type VfioErrorCode } from '../../errors.js';

/** The values in a trace's lines, as codecs: what is decoded is checked, and encoding is the way back. */

function scalar<A, O>(name: string, is: (value: unknown) => value is A, read: (value: unknown) => A | undefined, write: (value: A) => O): t.Type<A, O> {
  return new t.Type(
    name,
    is,
    (value, context) => {
      const decoded = read(value);
      return decoded === undefined ? t.failure(value, context, `expected ${name}`) : t.success(decoded);
    },
    write,
  );
}

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** 64-bit quantities and ns: numbers of JSON are exact up to 2^53 only. */
export const u64 = scalar(
  'a decimal string of 1 to 20 digits',
  (value): value is bigint => typeof value === 'bigint',
  (value) => (typeof value === 'string' && /^\d{1,20}$/.test(value) ? BigInt(value) : undefined),
  String,
);

export const whole = scalar('a whole number from 0', isWhole, (value) => (isWhole(value) ? value : undefined), t.identity);

/** null in JSON, undefined here. */
export function orNone<A>(codec: t.Type<A, unknown>): t.Type<A | undefined, unknown> {
  return new t.Type(
    `${codec.name} or null`,
    (value): value is A | undefined => value === undefined || codec.is(value),
    (value, context) => (value === null ? t.success(undefined) : codec.validate(value, context)),
    (value) => (value === undefined ? null : codec.encode(value)),
  );
}

/** The answer of a call that only says that it is done. */
export const nothing = new t.Type<undefined, null>(
  'null',
  (value): value is undefined => value === undefined,
  (value, context) => (value === null ? t.success(undefined) : t.failure(value, context, 'expected null')),
  () => null,
);

/** Bytes that crossed the port: how many, and as many of the first as the recording keeps. */
export interface KeptBytes {
  readonly size: number;
  readonly kept: Uint8Array;
}

const isKept = (value: unknown): value is KeptBytes => typeof value === 'object' && value !== null && 'kept' in value;

export const keptBytes = scalar(
  '{"size":n,"hex":"..."} with no more digits than bytes',
  isKept,
  (value) => {
    if (typeof value !== 'object' || value === null) return undefined;
    const { size, hex } = value as { readonly size?: unknown; readonly hex?: unknown };
    if (!isWhole(size) || typeof hex !== 'string' || !/^(?:[0-9a-f]{2})*$/.test(hex) || hex.length > 2 * size) return undefined;
    return { size, kept: new Uint8Array(Buffer.from(hex, 'hex')) };
  },
  ({ size, kept }) => ({ size, hex: Buffer.from(kept.buffer, kept.byteOffset, kept.byteLength).toString('hex') }),
);

/** An error as it can be told again: a `VfioError` but for its cause; of any other its message. */
export interface TracedError {
  readonly code: VfioErrorCode | undefined;
  /** Without device, operation and code, which the constructor puts around it. */
  readonly message: string;
  readonly operation: string;
  readonly device: string | undefined;
  readonly errno: string | undefined;
}

const isCode = (value: unknown): value is VfioErrorCode => typeof value === 'string' && Object.hasOwn(errorCodes, value);
const code = scalar('an error code of this version', isCode, (value) => (isCode(value) ? value : undefined), t.identity);
const text = t.string;

export const tracedError: t.Type<TracedError, unknown> = t.exact(
  t.type({ code: orNone(code), message: text, operation: text, device: orNone(text), errno: orNone(text) }),
);

export function traceError(error: unknown): TracedError {
  if (!VfioError.is(error)) return { code: undefined, message: error instanceof Error ? error.message : String(error), operation: '', device: undefined, errno: undefined };
  const { code, operation, device, errno } = error;
  const before = `${device === undefined ? '' : `${device}: `}${operation}: `;
  const after = `${errno === undefined ? '' : ` (${errno})`} [${code}]`;
  const bare = error.message.startsWith(before) && error.message.endsWith(after) ? error.message.slice(before.length, -after.length) : error.message;
  return { code, message: bare, operation, device, errno };
}

/** The error again. */
export function errorOf({ code, message, operation, device, errno }: TracedError): Error {
  return code === undefined ? new Error(message) : new VfioError(code, message, { operation, device, errno });
}
