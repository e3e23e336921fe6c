/** Configuration space of 4,096 bytes, with capabilities given as [id, offset]: each points to the next, whatever that leads to. */
export function pciSpace(parts: { readonly capabilities?: readonly (readonly [number, number])[]; readonly extended?: readonly (readonly [number, number])[] }): Uint8Array {
  const config = new Uint8Array(4096);
  const view = new DataView(config.buffer);
  const { capabilities = [], extended = [] } = parts;
  view.setUint16(0, 0x8086, true);
  view.setUint16(2, 0x10d3, true);
  view.setUint16(6, 1 << 4, true);
  view.setUint8(0x34, capabilities[0]?.[1] ?? 0);
  capabilities.forEach(([id, at], n) => {
    // One that was there before: this is a loop, and its pointer stays.
    if (capabilities.findIndex(([, other]) => other === at) < n) return;
    view.setUint8(at, id);
    view.setUint8(at + 1, capabilities[n + 1]?.[1] ?? 0);
  });
  extended.forEach(([id, at], n) => {
    if (extended.findIndex(([, other]) => other === at) < n) return;
    view.setUint32(at, (((extended[n + 1]?.[1] ?? 0) << 20) | (1 << 16) | id) >>> 0, true);
  });
  return config;
}
