/** An example as a process of its own. */
import '../../examples/03-migrate-one/main.js';
