// Returns at once: the thread is gone without having served its call.
