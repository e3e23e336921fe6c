/** The version of the package, as its description for npm has it: a test compares the two. */
export const version = '0.1.0';
