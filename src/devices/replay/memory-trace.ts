import type { TraceSink } from './recorder.js';

/** A recording that is kept in memory, as far as the recorder's limits let it grow. */
export interface MemoryTrace extends TraceSink {
  /** What was written so far: what `readTrace` takes. */
  readonly text: string;
}

export function memoryTrace(): MemoryTrace {
  const lines: string[] = [];
  return {
    write: (line) => lines.push(`${line}\n`) > 0,
    end: () => undefined,
    get text() {
      return lines.join('');
    },
  };
}
