import type { PortEvent } from '../../diagnostics.js';
import { laneOrder } from '../device-lanes.js';
import { describe } from '../shown.js';
import { areaText, Lanes } from './lanes.js';
import type { DrawnDevice } from './drawn.js';

/** The devices of a recording of lanes. */
export function eventDevices(events: readonly PortEvent[], timeOf: (atNs: bigint) => number, endNs: number): readonly DrawnDevice[] {
  const devices = new Map<string, { readonly lanes: Lanes; begun: { readonly label: string; readonly atNs: number } | undefined }>();
  for (const event of events) {
    const { device: name, lane, label, phase, region, area, error } = event;
    let device = devices.get(name);
    if (device === undefined) devices.set(name, (device = { lanes: new Lanes(laneOrder, endNs), begun: undefined }));
    const { lanes } = device;
    const atNs = timeOf(event.atNs);
    const failure = error === undefined ? '' : `: ${describe(error)}`;
    if (phase === 'begin') {
      device.begun = { label, atNs };
      continue;
    }
    const begun = phase === 'end' ? device.begun : undefined;
    if (phase === 'end') device.begun = undefined;
    lanes.add(lane, {
      atNs,
      ...(phase === 'end' ? { atNs: begun?.atNs ?? 0, endNs: atNs } : {}),
      label: begun?.label ?? label,
      detail: `${lane} ${begun === undefined || begun.label === label ? label : `${begun.label}, ended in ${label}`}${area === undefined ? '' : ` ${areaText(area)}`}${failure}`,
      ...(error === undefined ? {} : { failed: true }),
    });
    if (region !== undefined && area !== undefined && error === undefined) {
      if (lane === 'map') lanes.map(region, area, atNs);
      if (lane === 'unmap') lanes.unmap(region, area, atNs);
    }
  }
  return [...devices].map(([name, { lanes, begun }]) => {
    if (begun !== undefined) lanes.add('state', { atNs: begun.atNs, endNs, label: begun.label, detail: `state ${begun.label}, not returned` });
    return { name, lanes: lanes.finish() };
  });
}
