type Koffi = typeof import('koffi');

/** Memory for what the calls of one binding take by address. It serves all of them: none outlives its turn. */
export interface Arguments {
  readonly view: DataView;
  /** Where it begins. */
  readonly base: number;
  readonly write64: (at: number, value: number) => void;
  /** Where the bytes of a typed array are, for a struct that holds a pointer. */
  readonly addressOf: (bytes: Uint8Array) => number;
  /** What a call answered: errno belongs to the thread and the next call changes it, so it is taken here. */
  readonly result: (value: number) => number;
}

export function argumentsFor(koffi: Koffi): Arguments {
  // An ArrayBuffer of this size lives outside V8's heap and does not move.
  const view = new DataView(new ArrayBuffer(4096));
  return {
    view,
    base: Number(koffi.address(new Uint8Array(view.buffer))),
    write64: (at, value) => {
      // In halves: a bigint costs more than the call that it is for.
      view.setUint32(at, value >>> 0, true);
      view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
    },
    addressOf: (bytes) => addressIn(koffi, bytes),
    result: (value) => (value === -1 ? -koffi.errno() : value),
  };
}

/** Where the bytes of a view are. A short typed array may live inside the heap and move, until its buffer has been asked for. */
export function addressIn(koffi: Koffi, bytes: ArrayBufferView): number {
  return bytes.buffer.byteLength === 0 ? 0 : Number(koffi.address(bytes));
}
