/** How long one frame is. A frame is always an integer. */
export type FrameUnit = 'us' | 'ms';

const usOf = { us: 1, ms: 1_000, s: 1_000_000, m: 60_000_000 } as const;

/** Microseconds in one frame. */
export function usPerFrame(unit: FrameUnit): number {
  return usOf[unit];
}

/** `50ms`, `1.5s` at the head of a text. */
export const durationAtStart = /^(\d+(?:\.\d+)?)(us|ms|s|m)(?![\w.])/;

/** The frames in a duration such as `50ms`; undefined where the text is none. Throws where it is no whole number of frames. */
export function framesIn(duration: string, unit: FrameUnit): number | undefined {
  const [whole, amount, name] = durationAtStart.exec(duration) ?? [];
  if (whole === undefined || whole.length !== duration.length) return undefined;
  const exact = (Number(amount) * usOf[name as keyof typeof usOf]) / usPerFrame(unit);
  // 1.1ms is 1100.0000000000002 in floating point, and 1100 frames in the mind of its author.
  const frames = Math.round(exact);
  if (Math.abs(exact - frames) > 1e-6) throw new Error(`${duration} is ${exact} frames; one frame is 1${unit}, and frames are whole`);
  return frames;
}

/** The shortest exact writing of a number of frames: `7us`, `1.5ms`, `2s`. */
export function formatFrames(frames: number, unit: FrameUnit): string {
  return formatUs(frames * usPerFrame(unit));
}

/** The shortest exact writing of a time in microseconds. */
export function formatUs(us: number): string {
  if (us >= usOf.s) return `${us / usOf.s}s`;
  if (us >= usOf.ms) return `${us / usOf.ms}ms`;
  return `${us}us`;
}

/** How a message names a frame: `frame 14`, and with its time where counting columns no longer helps: `frame 5000 (5ms)`. */
export function frameInWords(frame: number, unit: FrameUnit): string {
  return `frame ${frameNumber(frame, unit)}`;
}

/** The same without the word: `16`, `5000 (5ms)`. */
export function frameNumber(frame: number, unit: FrameUnit): string {
  return frame * usPerFrame(unit) >= 1_000 && frame >= 100 ? `${frame} (${formatFrames(frame, unit)})` : `${frame}`;
}
