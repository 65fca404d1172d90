// What the real model is asked: harmless, short, each another kind of answer.

export const prompts: readonly string[] = [
  'What is the capital of France?',
  'Name the three primary colors.',
  'Write one sentence about the sea.',
  'How many days does a week have?',
  'Translate "good morning" into Spanish.',
  'What is 12 plus 30?',
  'Give me a synonym for "happy".',
  'Write a Python function that returns the square of a number.',
  'Who wrote the play Romeo and Juliet?',
  'List two advantages of riding a bicycle to work.',
  'What do bees make?',
  'Explain in one sentence why the sky is blue.',
  'Finish the sentence: The quick brown fox',
  'Which is larger, the Sun or the Moon?',
  'Suggest a name for a small black cat.',
  'Convert 3 kilometers to meters.',
  'What is the opposite of "cold"?',
  'Write a polite e-mail to postpone a meeting until Friday.',
  'How do I boil an egg?',
  'Ein Satz auf Deutsch über 東京, bitte! 🙂',
]
