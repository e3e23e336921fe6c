import { VfioError, type VfioErrorCode } from '../../errors.js';

export type Meaning = readonly [code: VfioErrorCode, message: string];

/** What an errno means at one place; a function is asked only where it has come to that. */
export type Meanings = Readonly<Record<string, Meaning | (() => Meaning)>>;

/** The same failure, with what this errno means at this place, and for whom. */
export function explained<T>(call: () => T, meanings: Meanings, whose?: string): T {
  try {
    return call();
  } catch (error) {
    const meaning = VfioError.is(error) && error.errno !== undefined ? meanings[error.errno] : undefined;
    if (meaning === undefined || !VfioError.is(error)) throw error;
    const { operation, device, errno } = error;
    const [code, message] = typeof meaning === 'function' ? meaning() : meaning;
    throw new VfioError(code, message, { operation, device: whose ?? device, errno, cause: error });
  }
}
