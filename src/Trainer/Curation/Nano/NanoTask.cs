namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>One problem as it is asked: plain, or self-invoking when it has a call.</summary>
internal sealed record NanoTask(NanoProblem Base, NanoCall? Call)
{
    public string Kind => Call is null ? "plain" : "self-invoking";

    /// <summary>The function that the tests call.</summary>
    public string EntryPoint => Call?.Name ?? Base.Name;

    public string Combination => Call is null ? Base.Combination : $"{Call.Form.Key}({Base.Combination})";

    public IEnumerable<int> Constants =>
        Call is { Form.HasConstant: true } call ? Base.Constants.Append(call.Constant) : Base.Constants;

    /// <summary>The value of the function that the tests call.</summary>
    public NanoValue Evaluate(NanoValue[] arguments) => Call is null ? Base.Evaluate(arguments[0]) : Call.Evaluate(Base, arguments);
}
