/** What is drawn: lanes of a device, with what stands on them. */
export interface DrawnDevice {
  readonly name: string;
  readonly lanes: readonly DrawnLane[];
}

export interface DrawnLane {
  readonly name: string;
  /** In the order of their times. */
  readonly marks: readonly Mark[];
}

/** One event, or something that lasted. */
export interface Mark {
  /** Since the first event of the run, ns. */
  readonly atNs: number;
  readonly endNs?: number;
  /** A few signs: `q0`, `+1`, `pre-copy`. */
  readonly label: string;
  /** What stands under the pointer. */
  readonly detail: string;
  readonly failed?: boolean;
}
