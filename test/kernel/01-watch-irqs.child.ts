/** An example as a process of its own. */
import '../../examples/01-watch-irqs/main.js';
