/** The steps of KF-4 after the start, in order; the one named is the one that is due. */
export type OnboardingStep =
  | 'create_customer'
  | 'setup_payment'
  | 'select_plan'
  | 'create_subscription'
  | 'complete'
  | 'completed'

const ORDER: readonly OnboardingStep[] = [
  'create_customer',
  'setup_payment',
  'select_plan',
  'create_subscription',
  'complete',
  'completed',
]

/** Steps that may be taken again while only the next one is due: nothing has come of them yet that cannot be changed. */
const REPEATABLE: ReadonlySet<OnboardingStep> = new Set(['setup_payment', 'select_plan'])

/** Whether a step may be taken when another (or the same) is due. Pure. */
export function mayTake(step: OnboardingStep, due: OnboardingStep): boolean {
  return step === due || (REPEATABLE.has(step) && nextStep(step) === due)
}

/** The step that is due after one. */
export function nextStep(step: OnboardingStep): OnboardingStep {
  return ORDER[ORDER.indexOf(step) + 1] ?? 'completed'
}
