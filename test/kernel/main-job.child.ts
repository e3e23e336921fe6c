/** The main job as a process of its own; its device stands in the environment, as the lane says it for `npm start -- --kernel`. */
import '../../examples/main-job/main.js';
