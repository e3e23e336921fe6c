/** An example as a process of its own. */
import '../../examples/02-serve-remaps/main.js';
