/**
 * The crc32 of two pieces of bytes, one after the other, from those of the pieces: nobody reads the bytes twice.
 *
 * A crc32 is the remainder of a polynomial over bits; n bytes behind it multiply it by x^(8n). Numbers are reflected, as crc32 has
 * them: bit 31 is x^0.
 */
export class CrcCombiner {
  private length = 0;
  private shift = one;

  /** @param length of the second piece, bytes. Pieces of one length in a row cost least. */
  combine(first: number, second: number, length: number): number {
    if (length !== this.length) {
      this.length = length;
      this.shift = powerOfX8(length);
    }
    return (times(first, this.shift) ^ second) >>> 0;
  }
}

const polynomial = 0xedb8_8320;
const one = 0x8000_0000;
const x8 = one >>> 8;

/** x^(8n). */
function powerOfX8(n: number): number {
  let power = one;
  for (let [square, rest] = [x8, n]; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) power = times(power, square);
    square = times(square, square);
  }
  return power;
}

function times(a: number, b: number): number {
  let product = 0;
  for (let bit = 31, shifted = b; bit >= 0; bit -= 1) {
    if (((a >>> bit) & 1) === 1) product ^= shifted;
    shifted = (shifted & 1) === 1 ? (shifted >>> 1) ^ polynomial : shifted >>> 1;
  }
  return product >>> 0;
}
