import type { TraceLine } from './mdev.js';

/** The arcs of device_state that a driver went, as its trace has them: `RUNNING>PRE_COPY`. */
export function arcsIn(trace: readonly TraceLine[]): readonly string[] {
  return trace.filter(({ event, fields }) => event === 'state' && fields['ret'] === '0').map(({ fields }) => `${fields['from'] ?? ''}>${fields['to'] ?? ''}`);
}

/** The events of a driver's trace by the state in which they happened, with the region of a mapping: `munmap 1`. */
export function sections(trace: readonly TraceLine[]): Readonly<Record<string, readonly string[]>> {
  const all: Record<string, string[]> = {};
  let now = trace.find(({ event }) => event === 'state')?.fields['from'] ?? 'RUNNING';
  for (const { event, fields } of trace) {
    (all[now] ??= []).push(event.endsWith('map') ? `${event} ${fields['region'] ?? ''}` : event);
    if (event === 'state' && fields['ret'] === '0') now = fields['to'] ?? now;
  }
  return all;
}

/** Of one section: what was demanded and acked, and what became of one region's mappings meanwhile. */
export function remapsIn(section: readonly string[] | undefined, region: number): readonly string[] {
  return (section ?? []).filter((line) => ['signal', 'ack', `mmap ${region}`, `munmap ${region}`].includes(line));
}
