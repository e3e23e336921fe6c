/** Something at a path of this machine: a device that another process serves by vfio-user, or a recorded run. */
export interface PathAddress {
  readonly kind: 'vfio-user' | 'trace';
  readonly path: string;
}

/** `unix:PATH`, which is `vfio-user:PATH`, or `trace:FILE`; undefined: no such form, so the kernel may have it (`parseAddress`). */
export function parsePathAddress(text: string): PathAddress | undefined {
  const [, form, path] = /^(unix|vfio-user|trace):(.+)$/s.exec(text) ?? [];
  return path === undefined ? undefined : { kind: form === 'trace' ? 'trace' : 'vfio-user', path };
}
