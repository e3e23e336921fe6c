/** The one argument of an example that serves a device: `unix:/PATH`. */
export function socketPath(): string {
  const [, path] = /^unix:(.+)$/s.exec(process.argv[2] ?? '') ?? [];
  if (path !== undefined) return path;
  process.stderr.write('usage: unix:/PATH\n');
  process.exit(2);
}
