throw new Error('no koffi here');
