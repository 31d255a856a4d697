namespace Z1Coder.Trainer.Evaluate;

/// <summary>One answer that is wanted.</summary>
/// <param name="Task">The task.</param>
/// <param name="Tests">Hash of what grades the task.</param>
/// <param name="Sample">Which of the answers to it.</param>
/// <param name="Position">Its place among all answers: task after task.</param>
/// <param name="Prompt">Token ids, the beginning of the model's turn included.</param>
/// <param name="Key">Names it on disk: a hash of task, number and prompt.</param>
internal sealed record AnswerRequest(BenchmarkTask Task, string Tests, int Sample, int Position, int[] Prompt, UInt128 Key);
