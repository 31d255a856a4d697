namespace Z1Coder.Trainer.Batches;

/// <summary>What becomes of the samples at the end of an epoch that do not fill a step.</summary>
public enum LastStep
{
    /// <summary>They make a smaller step, so that an epoch is every sample once.</summary>
    Keep,

    /// <summary>They are left out of this epoch; the next one has another order, and leaves out others.</summary>
    Drop,

    /// <summary>They open the next epoch's first step, as the leftover micro-batches of transformers 4.37 do; the run's last ones are left out.</summary>
    Carry,
}
