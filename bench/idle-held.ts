/**
 * The process that idle.ts looks at from outside: it arms so many irqs, says so, and sleeps until it is killed.
 *
 *   idle-held.ts FDS       FDS = 0: a bare Node process, without the library
 */
const fds = Number(process.argv[2]);

if (fds > 0) {
  const { Eventfd } = await import('../src/devices/linux/eventfd.js');
  const { sharedReactor } = await import('../src/devices/linux/reactor.js');
  for (let n = 0; n < fds; n += 1) {
    sharedReactor().add(new Eventfd().fd).arm(() => {
      throw new Error('nobody signals here');
    });
  }
}
process.stdout.write('armed\n');
setInterval(() => undefined, 0x7fff_ffff);
