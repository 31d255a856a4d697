namespace Z1Coder.Kernels;

/// <summary>Which device file <see cref="Attention"/> launches.</summary>
internal enum AttentionPath
{
    /// <summary>AttentionHopper.cu on sm_90a where it takes the head dim, else Attention.cu.</summary>
    ByArchitecture,

    /// <summary>Attention.cu: mma.sync, every architecture.</summary>
    Portable,

    /// <summary>AttentionHopper.cu: wgmma and TMA; on hostcuda too.</summary>
    Hopper,
}
