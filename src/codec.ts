import { isLeft } from 'fp-ts/lib/Either.js';
import type { Type } from 'io-ts';
import { VfioError, type VfioErrorCode } from './errors.js';

/**
 * The seam to io-ts: what comes from outside (addresses, options of a command line, trace files, messages) is decoded
 * here, once, and is typed from then on. Never on the path of an irq.
 */
export function decodeOrThrow<A>(codec: Type<A, unknown>, value: unknown, code: VfioErrorCode, operation: string, device?: string): A {
  const decoded = codec.decode(value);
  if (!isLeft(decoded)) return decoded.right;
  const [first] = decoded.left;
  const where = first?.context.map(({ key }) => key).filter((key) => key !== '').join('.') ?? '';
  throw new VfioError(code, `${where === '' ? '' : `${where}: `}${first?.message ?? `expected ${codec.name}`}`, { operation, device });
}
