namespace Z1Coder.Trainer.Optimize;

/// <summary>What the learning rate does after the warm-up.</summary>
public enum ScheduleKind
{
    /// <summary>Half a cosine down to the minimum (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts).</summary>
    Cosine,

    /// <summary>A straight line down to the minimum.</summary>
    Linear,

    /// <summary>Stays at the peak.</summary>
    Constant,
}
