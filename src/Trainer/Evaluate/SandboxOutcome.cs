namespace Z1Coder.Trainer.Evaluate;

/// <summary>How a confined program ended. Only <see cref="Passed"/> counts as solved.</summary>
public enum SandboxOutcome
{
    /// <summary>The program and its tests ran to their end, and the harness proved it with the run's token.</summary>
    Passed,

    /// <summary>An exception left the program or its tests: a failed assertion, a syntax error, any other.</summary>
    Failed,

    /// <summary>The process ended before the tests did, whatever its exit status: sys.exit, os._exit, exec.</summary>
    ExitedEarly,

    /// <summary>Wall-clock or CPU time ran out.</summary>
    TimedOut,

    /// <summary>MemoryError, or resident memory passed the limit.</summary>
    OutOfMemory,

    /// <summary>More output than allowed.</summary>
    OutputLimit,

    /// <summary>A signal ended the interpreter: a segmentation fault, abort, or kill.</summary>
    Crashed,

    /// <summary>No program ran: the prompt does not fit into the model's context.</summary>
    PromptTooLong,
}
