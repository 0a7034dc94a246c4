import { check } from 'k6';

/** A scenario that fails the run where it throws, as when something never came: k6 by itself only logs that. */
export const whole =
  (scenario) =>
  async (...args) => {
    try {
      return await scenario(...args);
    } catch (error) {
      check(error, { 'nothing is thrown': () => false });
      throw error;
    }
  };
