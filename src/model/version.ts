/** The version of the package, as its package.json says (a test compares them). */
export const packageVersion = '0.2.0'
