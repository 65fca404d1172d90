"""The generated world: words, tasks, replies, exams and the rules that judge them. Pure."""
