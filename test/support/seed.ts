import fc from 'fast-check';

// Every property test begins where VFIO_RX_SEED says, if it says so: what a run found red, the next run with that seed finds too.
const seed = process.env['VFIO_RX_SEED'];
if (seed !== undefined) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(seed) });
