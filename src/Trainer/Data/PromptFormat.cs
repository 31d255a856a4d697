namespace Z1Coder.Trainer.Data;

/// <summary>How a record becomes the text of a prompt.</summary>
public enum PromptFormat
{
    /// <summary>The chat template of the checkpoint; the answer follows the opening of the assistant's turn.</summary>
    Chat,

    /// <summary>The instruction text of the original Z1 run ("Below is an instruction …"); one instruction and one answer.</summary>
    Alpaca,
}
