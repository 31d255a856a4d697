namespace Z1Coder.Runtime;

/// <summary>How values of the same place on several ranks become one.</summary>
public enum Reduction
{
    /// <summary>Their sum; bf16 is added in fp32 and rounded once where the backend is ours, as NCCL does it where it is NCCL's.</summary>
    Sum,

    /// <summary>The largest; NaN wins.</summary>
    Max,
}
