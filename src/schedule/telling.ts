/** Is told how asking the store for something went, each time; what fails is tried again by itself. */
export interface Telling {
  failed(error: unknown): void
  worked(): void
}
