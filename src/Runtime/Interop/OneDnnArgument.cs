namespace Z1Coder.Runtime;

/// <summary>dnnl_exec_arg_t: which operand, and its memory object.</summary>
internal struct OneDnnArgument
{
    public const int Source = 1, Destination = 17, Weights = 33, Bias = 41, Scratchpad = 80;

    public int Kind;
    public nint Memory;
}
