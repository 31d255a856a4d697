namespace Z1Coder.Trainer.Train;

/// <summary>pass@1 could not be measured: the same on every rank, so that all end their checkpoint together.</summary>
/// <param name="cause">what rank 0 met; null on the others</param>
internal sealed class EvaluationException(Exception? cause) : Exception("pass@1 could not be measured", cause);
