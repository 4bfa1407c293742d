import fc from 'fast-check'

/**
 * Properties draw the same cases in every run, so that a change and nothing else turns the suite red. To look further, run it with
 * another seed: `PROPERTY_SEED=random npx vitest run`, or the number that a failure printed.
 */
const wanted = process.env['PROPERTY_SEED']
if (wanted !== 'random') fc.configureGlobal({ seed: wanted === undefined ? 20_261_121 : Number(wanted) })
