/** The command `vfio-rx` as a process of its own. */
import '../../src/cli/main.js';
