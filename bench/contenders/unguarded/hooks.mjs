// Loader hooks: the package's connector is answered with the one beside this file.

const connector = '/dist/deliver/connect.js'
const plain = new URL('./connect.mjs', import.meta.url).href

export async function resolve(specifier, context, next) {
  const found = await next(specifier, context)
  return found.url.endsWith(connector) ? { ...found, url: plain } : found
}
