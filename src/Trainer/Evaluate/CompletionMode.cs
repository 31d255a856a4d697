namespace Z1Coder.Trainer.Evaluate;

/// <summary>How a model's code and the prompt make one program.</summary>
public enum CompletionMode
{
    /// <summary><see cref="Calibrated"/> when the code defines the entry point at the left margin, otherwise <see cref="Continuation"/>.</summary>
    Auto,

    /// <summary>prompt + code: the code is the body that the prompt's signature waits for.</summary>
    Continuation,

    /// <summary>The code alone.</summary>
    Program,

    /// <summary>
    /// prompt, "pass", code: a whole program after the prompt's imports and helpers, so that one the answer left out does not fail it
    /// (BigCodeBench's "calibrated").
    /// </summary>
    Calibrated,
}
